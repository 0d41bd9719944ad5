# The guest of a guest, and the way into it and out. Its instructions use registers and the bytes under test only.
    .section .text.nested, "ax", @progbits

# fn vmx_enter(registers: &mut [u64; 3]) -> u64
    .globl vmx_enter
vmx_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    push rdi
    mov eax, 0x6c14                 # HOST_RSP
    vmwrite rax, rsp
    mov eax, 0x6c16                 # HOST_RIP
    mov edx, offset vmx_exit
    vmwrite rax, rdx
    mov rsi, [rdi + 8]
    mov rdi, [rdi]
    vmlaunch
    mov eax, 1                      # it did not
    pop rdi
    jmp 2f
vmx_exit:
    pop rdi
    mov ebx, ebx                    # 32 bits; above them is what 32-bit mode leaves there
    mov [rdi + 16], rbx
    xor eax, eax
2:  pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

# RDI: address, ESI: which probe. Leaves the ticks of a round in EBX.
    .macro nested_round value, kept, address, bytes
    one_round \value, \kept, \address, \bytes
    mov ebx, eax
    vmcall
    ud2
    .endm

    .globl nested_64
nested_64:
    nested_round rax, rbp, rdi, 8
    .code32
    .globl nested_32
nested_32:
    nested_round eax, ebp, edi, 4
    .code64

# Exception stubs and the IDT. Every gate uses IST 1, because precompiled core code keeps data in the red zone.
    .section .traps, "ax", @progbits
    .code64
    .globl trap_stubs
trap_stubs:                         # 16 bytes each, at {IMAGE}: the linker script asserts it
    .set vector, 0
    .rept 32
    .balign 16
    .if vector == 3                 # #BP: the way back from CPL3
    jmp user_return
    .else
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    push 0
    .endif
    push vector
    jmp trap_common
    .endif
    .set vector, vector + 1
    .endr

# RSP: vector, error code, RIP, CS, RFLAGS, RSP, SS. Where R11 points to the fix-up of the instruction at RIP, go on at the
# fix-up's second word with R11 = 1 << 63 | error code << 8 | vector.
    .balign 16
trap_common:
    cmp r11, offset __kmt_fixups_start
    jb 3f
    cmp r11, offset __kmt_fixups_end
    jae 3f
    push rax
    mov rax, [r11]
    cmp rax, [rsp + 24]
    jne 2f
    mov rax, [r11 + 8]
    mov [rsp + 24], rax
    mov r11, [rsp + 16]
    shl r11, 8
    or r11, [rsp + 8]
    bts r11, 63
    pop rax
    add rsp, 16
    iretq
2:  pop rax
3:  push rax
    push rcx
    push rdx
    push rsi
    push rdi
    push r8
    push r9
    push r10
    push r11
    cld
    lea rdi, [rsp + 72]
    call trap_unfixed
    pop r11
    pop r10
    pop r9
    pop r8
    pop rdi
    pop rsi
    pop rdx
    pop rcx
    pop rax
    add rsp, 16
    iretq

# fn user_enter(function, argument, stack, &mut area.kernel_rsp) -> u64
    .globl user_enter
user_enter:
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    mov [rcx], rsp
    mov rax, rdi
    mov rdi, rsi
    push 0x1b                       # user data
    push rdx
    push 2                          # RFLAGS
    push 0x23                       # user code
    push offset user_start
    iretq
user_start:                         # CPL3
    call rax
    int3
user_return:                        # CPL0 again, RSP in the area's trap stack; RAX is the function's result
    mov rcx, rsp
    and rcx, -{AREA_SIZE}
    mov rsp, [rcx]
    mov ecx, 0x10
    mov ss, ecx
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    ret

    .section .rodata.idt, "a", @progbits
    .balign 16
    .globl idt_register
    .set vector, 0
idt:
    .rept 32
    .set stub, {IMAGE} + 16 * vector
    .if vector == 3
    .set gate, 0xee                 # interrupt gate, DPL 3
    .else
    .set gate, 0x8e                 # interrupt gate, DPL 0
    .endif
    .quad (stub & 0xffff) | (8 << 16) | (1 << 32) | (gate << 40) | ((stub >> 16) << 48)
    .quad 0
    .set vector, vector + 1
    .endr
idt_register:
    .word idt_register - idt - 1
    .quad idt

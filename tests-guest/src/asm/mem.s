# What the compiler calls for memory, without SSE. String instructions keep the number of emulated instructions low.
    .section .text.mem, "ax", @progbits
    .code64
    .globl memcpy, memmove, memset, memcmp, bcmp, strlen
memmove:
    mov rcx, rdi
    sub rcx, rsi
    cmp rcx, rdx
    jb 2f
memcpy:
    mov rax, rdi
    mov rcx, rdx
    shr rcx, 3
    rep movsq
    mov ecx, edx
    and ecx, 7
    rep movsb
    ret
2:  mov rax, rdi                    # the destination overlaps from above: copy downwards
    mov rcx, rdx
    lea rdi, [rdi + rdx - 1]
    lea rsi, [rsi + rdx - 1]
    std
    rep movsb
    cld
    ret
memset:
    mov r8, rdi
    movzx eax, sil
    mov rcx, 0x0101010101010101
    imul rax, rcx
    mov rcx, rdx
    shr rcx, 3
    rep stosq
    mov ecx, edx
    and ecx, 7
    rep stosb
    mov rax, r8
    ret
memcmp:
bcmp:
    xor eax, eax
    mov rcx, rdx
    cmp rcx, rcx                    # equal, where nothing is compared
    repe cmpsb
    je 3f
    movzx ecx, byte ptr [rsi - 1]
    movzx eax, byte ptr [rdi - 1]
    sub eax, ecx
3:  ret
strlen:
    xor eax, eax
4:  cmp byte ptr [rdi + rax], 0
    je 5f
    inc rax
    jmp 4b
5:  ret

# What an application processor runs after SIPI; copied to {TRAMPOLINE}. Its parameters lie at the end of that page.
    .section .rodata.trampoline, "a", @progbits
    .code16
    .globl trampoline, trampoline_end
trampoline:
    cli
    cld
    mov ax, cs
    mov ds, ax
    mov eax, cr0                    # what INIT left
    mov dword ptr [{FOUND_CR0}], eax
    lgdt [{GDT_REGISTER}]
    mov eax, {START_CR4}            # PAE, OSFXSR, OSXMMEXCPT
    mov cr4, eax
    mov eax, dword ptr [{CR3}]
    mov cr3, eax
    mov ecx, 0xc0000080             # EFER: SCE, LME, NXE
    rdmsr
    or eax, 0x901
    wrmsr
    mov eax, dword ptr [{FOUND_CR0}]
    or eax, 0x80010023              # PG, WP, NE, MP, PE; CD and NW stay
    mov cr0, eax
    .byte 0x66, 0xea                # ljmp 8:3f, 32-bit offset
    .long {TRAMPOLINE} + 3f - trampoline
    .word 8
    .code64
3:  mov edi, dword ptr [{TRAMPOLINE} + {AREA}]
    lea rsp, [rdi + {AREA_SIZE}]
    mov eax, offset ap_start
    call rax
    ud2
trampoline_end:

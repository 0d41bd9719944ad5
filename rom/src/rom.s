# Reset vector, boot loader and end of the line. Linked at 0xfffff000; CS starts there with base 0xffff0000.
    .section .rom, "ax", @progbits

# I/O ports of Bochs' PC.
.set CMOS, 0x70
.set COM1, 0x3f8
.set ATA, 0x1f0
.set DEBUG, 0xe9                    # bytes for Bochs' standard output
.set SHUTDOWN, 0x8900               # "Shutdown" ends Bochs

.set MARK_AT, 0x7f                  # a byte of CMOS memory that no BIOS and no kernel uses; a reset leaves it
.set MARK, 0xa5
.set HEADER, 0x600                  # where the first sector of the disk goes
.set STACK, 0x7000

    .code16
rom:
    cli
    cld
    .byte 0x2e, 0x66, 0x0f, 0x01, 0x16      # lgdt cs:[gdt_register], with a 32-bit base
    .word gdt_register - rom + 0xf000
    mov eax, 0x11                   # ET, PE; CD and NW are set after a reset, and go
    mov cr0, eax
    .byte 0x66, 0xea                # ljmp 8:protected
    .long protected
    .word 8

    .code32
protected:
    mov eax, 16
    mov ds, eax
    mov es, eax
    mov ss, eax
    mov fs, eax
    mov gs, eax
    mov esp, STACK
    mov al, MARK_AT
    out CMOS, al
    in al, CMOS + 1
    cmp al, MARK
    jne first_time

    # A triple fault or a kernel that reboots: say so, and end.
    mov esi, offset reset_word
    mov edx, DEBUG
    call say
    mov esi, offset shutdown_word
    mov edx, SHUTDOWN
    call say
1:  hlt
    jmp 1b

first_time:
    mov al, MARK
    out CMOS + 1, al
    mov esi, offset start_word
    mov edx, DEBUG
    call say

    # The serial line: 115200 baud, eight bits, FIFO.
    mov esi, offset uart
2:  movzx edx, word ptr [esi]
    test edx, edx
    jz 3f
    mov al, [esi + 2]
    out dx, al
    add esi, 3
    jmp 2b

3:  xor esi, esi
    mov edi, HEADER
    mov ebp, 1
    call read
    cmp dword ptr [HEADER], 0x42544d4b      # "KMTB"
    jne no_disk
    test dword ptr [HEADER + 20], 1
    jz 4f
    call firmware_mtrrs
4:  mov ecx, [HEADER + 8]
    mov ebx, HEADER + 32
5:  test ecx, ecx
    jz 6f
    mov esi, [ebx]
    mov ebp, [ebx + 4]
    mov edi, [ebx + 8]
    push ecx
    call read
    pop ecx
    add ebx, 16
    dec ecx
    jmp 5b
6:  mov ebx, [HEADER + 16]
    mov eax, [HEADER + 12]
    jmp eax

no_disk:
    mov esi, offset no_disk_word
    mov edx, DEBUG
    call say
    jmp 1b

# Writes the bytes at ESI to port EDX, up to a zero.
say:
    lodsb
    test al, al
    jz 9f
    out dx, al
    jmp say

# Reads EBP sectors from sector ESI on to EDI, by ATA PIO with 28-bit addresses.
read:
    test ebp, ebp
    jz 9f
    mov eax, esi
    shr eax, 24
    or al, 0xe0                     # master, LBA
    mov edx, ATA + 6
    out dx, al
    mov ecx, 256                    # a command's most, written as 0
    cmp ebp, ecx
    jae 7f
    mov ecx, ebp
7:  mov al, cl
    mov edx, ATA + 2
    out dx, al
    mov eax, esi
    inc edx
    out dx, al
    shr eax, 8
    inc edx
    out dx, al
    shr eax, 8
    inc edx
    out dx, al
    mov edx, ATA + 7
    mov al, 0x20                    # READ SECTORS
    out dx, al
    add esi, ecx
    sub ebp, ecx
8:  mov edx, ATA + 7
    in al, dx
    and al, 0x88
    cmp al, 8                       # DRQ and not BSY
    jne 8b
    mov edx, ATA
    push ecx
    mov ecx, 256
    rep insw
    pop ecx
    dec ecx
    jnz 8b
    jmp read
9:  ret

# MTRRs as firmware leaves them: WB, but UC at 640-768 KiB and in the last GiB below 4 GiB.
firmware_mtrrs:
    mov eax, 0x80000008
    cpuid
    movzx ecx, al
    sub ecx, 32
    mov edi, 1
    shl edi, cl
    dec edi                         # physical address bits above 31
    mov eax, 0x06060606
    mov edx, eax
    mov ecx, 0x250
    wrmsr
    mov ecx, 0x258
    wrmsr
    mov ecx, 0x268
10: wrmsr
    inc ecx
    cmp ecx, 0x270
    jne 10b
    xor eax, eax
    xor edx, edx
    mov ecx, 0x259
    wrmsr
    mov eax, 0xc0000000
    mov ecx, 0x200
    wrmsr
    or eax, 0x800
    mov edx, edi
    inc ecx
    wrmsr
    mov eax, 0xc06                  # E, FE, WB
    xor edx, edx
    mov ecx, 0x2ff
    wrmsr
    ret

start_word: .asciz "\nkvm-memtype-start\n"
reset_word: .asciz "\nkvm-memtype-reset\n"
no_disk_word: .asciz "\nkvm-memtype-no-boot-disk\n"
shutdown_word: .asciz "Shutdown"

# Port and value.
.macro uart_out port, value
    .word COM1 + \port
    .byte \value
.endm
uart:
    uart_out 1, 0                   # no interrupts
    uart_out 3, 0x80                # DLAB
    uart_out 0, 1                   # divisor
    uart_out 1, 0
    uart_out 3, 3                   # 8N1
    uart_out 2, 1                   # FIFO
    .word 0

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff        # 32-bit code
    .quad 0x00cf93000000ffff        # data
gdt_register:
    .word gdt_register - gdt - 1
    .long gdt

    .org rom + 0xff0
    .code16
    jmp rom
    .org rom + 0x1000
    .code64

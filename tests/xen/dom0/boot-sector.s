# The boot sector of an HVM guest: reads and writes eight sectors of its first two disks by the BIOS, twice a second.
        .code16
        .globl  _start
_start: xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7c00, %sp
        sti
again:  movb    $0x80, %dl
disk:   movw    $8, packet + 2          # The BIOS writes here how many sectors were transferred.
        movw    $packet, %si
        movb    $0x42, %ah
        int     $0x13
        movw    $8, packet + 2
        movw    $packet, %si
        movw    $0x4300, %ax
        int     $0x13
        incb    %dl
        cmpb    $0x82, %dl
        jb      disk
        movw    0x46c, %bx              # The BIOS counts 18 ticks a second here.
pause:  hlt
        movw    0x46c, %ax
        subw    %bx, %ax
        cmpw    $9, %ax
        jb      pause
        jmp     again
        .balign 4
packet: .byte   16, 0
        .word   8                       # Sectors,
        .word   0x8000, 0               # to and from this address,
        .quad   64                      # beginning with this sector of the disk.
        .org    510
        .word   0xaa55

# Source of BOOT_SECTOR in accelerator.rs:
#   as --64 boot_sector.s -o boot.o && ld -Ttext=0x7c00 --oformat binary -o boot.bin boot.o
.code16
.org 0
start:
  cli
  xorw %ax,%ax
  movw %ax,%ds
  movw %ax,%es
  movw %ax,%ss
  movw $0x7c00,%sp
  sti
  movw 0x46c,%bx        /* BIOS tick counter: timer interrupts really arrive */
1: hlt
  cmpw 0x46c,%bx
  je 1b
  cli
  movw $0x1000,%di      /* three page-table levels at 0x1000..0x4000, one 2 MiB identity page */
  movw $0x1800,%cx
  xorw %ax,%ax
  cld
  rep stosw
  movw $0x2003,0x1000
  movw $0x3003,0x2000
  movw $0x0083,0x3000
  movl $0x1000,%eax
  movl %eax,%cr3
  movl %cr4,%eax
  orb $0x20,%al         /* PAE */
  movl %eax,%cr4
  movl $0xc0000080,%ecx /* EFER.LME */
  rdmsr
  orw $0x100,%ax
  wrmsr
  lgdtw gdtr
  movl %cr0,%eax
  orl $0x80000001,%eax
  movl %eax,%cr0
  ljmpw $8,$long
.code64
long:
  movl $0x21,%eax
  outl %eax,$0xf4       /* isa-debug-exit: QEMU leaves with (0x21<<1)|1 = 67 */
2: hlt
  jmp 2b
.align 8
gdt: .quad 0
  .quad 0x00209a0000000000
gdtr: .word 15
  .long gdt

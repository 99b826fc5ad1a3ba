# From the machine's first instruction to Rust, for both processors.
#
# The first processor comes by the PVH protocol (https://xenbits.xen.org/docs/unstable/misc/pvh.html):
# 32-bit protected mode without paging, `ebx` = address of `struct hvm_start_info`. The second comes in real
# mode at the page it was told. Both go on to long mode and from there at once to ring 3, with interrupts allowed
# and all ports open: a host's KVM may emulate ring 0, slowly and in part, where it runs ring 3 as it is. So in
# ring 0 there are only plain integer instructions, and no more of them than it takes.

.set XEN_ELFNOTE_PHYS32_ENTRY, 18

# Selectors.
.set KERNEL_CODE_32, 0x08
.set KERNEL_DATA, 0x10
.set KERNEL_CODE, 0x18
.set USER_DATA, 0x20 | 3
.set USER_CODE, 0x28 | 3
.set TASK_STATE, 0x30

.set STACK_BYTES, 0x10000
.set KERNEL_STACK_BYTES, 0x1000

.set CR0_PROTECTED, 0x1
.set CR0_MONITOR_COPROCESSOR, 0x2
.set CR0_EMULATE_COPROCESSOR, 0x4
.set CR0_PAGING, 0x80000000
.set CR4_PAE, 0x20
.set CR4_OSFXSR, 0x200
.set CR4_OSXMMEXCPT, 0x400
.set EFER, 0xc0000080
.set EFER_LONG_MODE, 0x100
.set RFLAGS, 0x2
.set RFLAGS_INTERRUPTS, 0x202

.set PIC_MASK_FIRST, 0x21
.set PIC_MASK_SECOND, 0xa1

.set LOCAL_APIC_EOI, 0xfee000b0

.section .note.pvh, "a", @note
    .balign 4
    .long 4, 8, XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"
    .quad pvh_entry

.text
.code32
.global pvh_entry
pvh_entry:
    cld
    cli
    movl %ebx, start_info_address
    xorl %ebp, %ebp

# `ebp` is the number of the processor.
enter_long_mode:
    lgdt descriptor_table_pointer
    movl $page_map_level_4, %eax
    movl %eax, %cr3
    movl %cr4, %eax
    orl $(CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT), %eax
    movl %eax, %cr4
    movl $EFER, %ecx
    rdmsr
    orl $EFER_LONG_MODE, %eax
    wrmsr
    movl %cr0, %eax
    andl $~CR0_EMULATE_COPROCESSOR, %eax
    orl $(CR0_PAGING | CR0_MONITOR_COPROCESSOR | CR0_PROTECTED), %eax
    movl %eax, %cr0
    ljmpl $KERNEL_CODE, $long_mode

.code64
long_mode:
    movl $KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    lidt interrupt_table_pointer

    # The task state tells where the stack of ring 0 is. Its address is in three places of its descriptor.
    movl %ebp, %edx
    shll $4, %edx
    leal task_state_descriptors(%rdx), %edi
    imull $TASK_STATE_BYTES, %ebp, %eax
    addl $task_states, %eax
    movw %ax, 2(%rdi)
    shrl $16, %eax
    movb %al, 4(%rdi)
    movb %ah, 7(%rdi)
    addl $TASK_STATE, %edx
    ltr %dx

    # The old interrupt controllers are silent from here on; the others begin so.
    movb $0xff, %al
    outb %al, $PIC_MASK_FIRST
    outb %al, $PIC_MASK_SECOND

    # The stack of ring 3 as a call would leave it.
    leal 1(%rbp), %ecx
    imull $STACK_BYTES, %ecx, %ecx
    addl $stacks - 8, %ecx
    movl $KERNEL_STACK_BYTES, %eax
    imull %ebp, %eax
    leal kernel_stacks + KERNEL_STACK_BYTES(%rax), %esp
    pushq $USER_DATA
    pushq %rcx
    pushq $RFLAGS_INTERRUPTS
    pushq $USER_CODE
    pushq $processor_main
    movl %ebp, %edi
    xorl %ebp, %ebp
    iretq

# The second processor. Copied to a page below one mebibyte; only what is relative or absolute may be used.
.section .data.trampoline, "aw"
.code16
.global trampoline
.global trampoline_end
trampoline:
    cli
    cld
    movw %cs, %ax
    movw %ax, %ds
    lgdtl trampoline_table_pointer - trampoline
    movl %cr0, %eax
    orl $CR0_PROTECTED, %eax
    movl %eax, %cr0
    ljmpl $KERNEL_CODE_32, $second_processor_entry
trampoline_table_pointer:
    .word descriptor_table_end - descriptor_table - 1
    .long descriptor_table
trampoline_end:

.text
.code32
second_processor_entry:
    movl $KERNEL_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $1, %ebp
    jmp enter_long_mode

# Interrupts: counted, told to the local APIC, and that is all.
.code64
.macro interrupt_entry number
interrupt_entry_\number:
    lock incl interrupt_counts + 4 * \number
    pushq %rax
    movl $LOCAL_APIC_EOI, %eax
    movl $0, (%rax)
    popq %rax
    iretq
.endm
.set number, 0
.altmacro
.rept 24
    interrupt_entry %number
    .set number, number + 1
.endr

.global spurious_entry
spurious_entry:
    iretq

# Exceptions: written down, and ring 3 goes on with the report of them, on a stack of its own. Those with these
# numbers push an error code.
.macro exception_entry vector
exception_entry_\vector:
    .if (\vector == 8) || (\vector >= 10 && \vector <= 14) || (\vector == 17) || (\vector == 21)
    .else
    pushq $0
    .endif
    pushq $\vector
    jmp exception
.endm
.set number, 0
.rept 32
    exception_entry %number
    .set number, number + 1
.endr

exception:
    popq %rdi
    popq %rsi
    movq (%rsp), %rdx
    movq %cr2, %rcx
    movq $exception_report, (%rsp)
    movq $USER_CODE, 8(%rsp)
    movq $RFLAGS, 16(%rsp)
    movq $exception_stack_end - 8, 24(%rsp)
    movq $USER_DATA, 32(%rsp)
    iretq

.section .rodata
.balign 8
.macro address_of prefix, number
    .quad \prefix\number
.endm
.global interrupt_entries
interrupt_entries:
.set number, 0
.rept 24
    address_of interrupt_entry_, %number
    .set number, number + 1
.endr
.global exception_entries
exception_entries:
.set number, 0
.rept 32
    address_of exception_entry_, %number
    .set number, number + 1
.endr
.noaltmacro

.section .data.tables, "aw"
.balign 8
descriptor_table:
    .quad 0
    .quad 0x00cf9b000000ffff        # KERNEL_CODE_32
    .quad 0x00cf93000000ffff        # KERNEL_DATA
    .quad 0x00af9b000000ffff        # KERNEL_CODE
    .quad 0x00cff3000000ffff        # USER_DATA
    .quad 0x00affb000000ffff        # USER_CODE
task_state_descriptors:
    .quad 0x0000890000002068, 0
    .quad 0x0000890000002068, 0
descriptor_table_end:

descriptor_table_pointer:
    .word descriptor_table_end - descriptor_table - 1
    .quad descriptor_table

.balign 8
interrupt_table_pointer:
    .word 256 * 16 - 1
    .quad interrupt_table

# Of a task state there is the stack of ring 0, and which ports ring 3 may use: all of them. (The I/O privilege
# level would say so in fewer bytes, but an emulated `iretq` may leave it where it was.)
.macro task_state stack_end
    .long 0
    .quad \stack_end
    .fill 90, 1, 0
    .word TASK_STATE_PORTS
    .fill PORT_BITS_BYTES, 1, 0
    .byte 0xff
    .balign 8
.endm
.set TASK_STATE_PORTS, 0x68
.set PORT_BITS_BYTES, 0x2000
.set TASK_STATE_BYTES, TASK_STATE_PORTS + PORT_BITS_BYTES + 8
.balign 8
task_states:
    task_state kernel_stacks + KERNEL_STACK_BYTES
    task_state kernel_stacks + 2 * KERNEL_STACK_BYTES

# The first 4 GiB, seen where they are, for every ring to read, write and execute, in pages of 2 MiB.
.balign 4096
page_map_level_4:
    .quad page_directory_pointers + 7
    .fill 511, 8, 0
page_directory_pointers:
    .quad page_directories + 0x0007, page_directories + 0x1007
    .quad page_directories + 0x2007, page_directories + 0x3007
    .fill 508, 8, 0
page_directories:
.set number, 0
.rept 2048
    .quad number * 0x200000 + 0x87
    .set number, number + 1
.endr

.global start_info_address
start_info_address:
    .quad 0

.section .bss
.balign 16
stacks:
    .skip 2 * STACK_BYTES
kernel_stacks:
    .skip 2 * KERNEL_STACK_BYTES
    .skip 0x4000
exception_stack_end:
.global interrupt_table
interrupt_table:
    .skip 256 * 16
.global interrupt_counts
interrupt_counts:
    .skip 24 * 4

/* Makes the libraries of this process believe that the processor lacks vector extensions, for comparisons at
 * a lower instruction set. Linux on x86-64. Where the processor can refuse CPUID to user programs
 * ("cpuid_fault" in /proc/cpuinfo), every CPUID is a fault, and the handler answers it with the bits
 * left out. Where it cannot (AMD), a library can be had with CLTS in place of CPUID (limit.py makes such a
 * copy): as long, a fault of the same kind, and in no user program. What a process starts by exec sees the
 * processor as it is. Libraries that have looked already, the C library among them, keep what they saw. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012 }; /* asm/prctl.h */

enum { EAX, EBX, ECX, EDX };
#define BIT(n) (UINT32_C(1) << (n))

/* Register `reg` of CPUID leaf 7, subleaf `sub`, and what a level and all below it do not have. The levels
 * count down: 3 no AMX and nothing newer than Cascade Lake, 2 no VNNI, 1 no AVX-512. */
static const struct {
    int level, sub, reg;
    uint32_t bits;
} masks[] = {
    /* VP2INTERSECT, AMX-BF16, AVX512-FP16, AMX-TILE, AMX-INT8 */
    {3, 0, EDX, BIT(8) | BIT(22) | BIT(23) | BIT(24) | BIT(25)},
    /* VBMI, VBMI2, GFNI, VAES, VPCLMULQDQ, BITALG, VPOPCNTDQ */
    {3, 0, ECX, BIT(1) | BIT(6) | BIT(8) | BIT(9) | BIT(10) | BIT(12) | BIT(14)},
    /* IFMA */
    {3, 0, EBX, BIT(21)},
    /* AVX-VNNI, BF16, AMX-FP16, AVX-IFMA */
    {3, 1, EAX, BIT(4) | BIT(5) | BIT(21) | BIT(23)},
    /* AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10 */
    {3, 1, EDX, BIT(4) | BIT(5) | BIT(8) | BIT(10) | BIT(19)},
    /* AVX512-VNNI */
    {2, 0, ECX, BIT(11)},
    /* F, DQ, PF, ER, CD, BW, VL */
    {1, 0, EBX, BIT(16) | BIT(17) | BIT(26) | BIT(27) | BIT(28) | BIT(30) | BIT(31)},
};

static int lowest;

static long set_faulting(int on) {
    return syscall(SYS_arch_prctl, ARCH_SET_CPUID, (unsigned long)!on);
}

static void answer(greg_t *regs) {
    uint32_t leaf = (uint32_t)regs[REG_RAX], sub = (uint32_t)regs[REG_RCX], r[4];
    set_faulting(0);
    __cpuid_count(leaf, sub, r[EAX], r[EBX], r[ECX], r[EDX]);
    set_faulting(1);
    for (size_t i = 0; leaf == 7 && i < sizeof masks / sizeof *masks; i++)
        if (masks[i].level >= lowest && masks[i].sub == (int)sub) r[masks[i].reg] &= ~masks[i].bits;
    regs[REG_RAX] = r[EAX], regs[REG_RBX] = r[EBX], regs[REG_RCX] = r[ECX], regs[REG_RDX] = r[EDX];
    regs[REG_RIP] += 2;
}

static void on_fault(int signal_number, siginfo_t *info, void *context) {
    static const uint8_t cpuid[2] = {0x0f, 0xa2}, clts[2] = {0x0f, 0x06};
    greg_t *regs = ((ucontext_t *)context)->uc_mcontext.gregs;
    int saved = errno;
    const void *at = (const void *)regs[REG_RIP];
    /* The kernel's own faults carry an address; that of a refused instruction does not. */
    if (info->si_code == SI_KERNEL && (memcmp(at, cpuid, sizeof cpuid) == 0 || memcmp(at, clts, sizeof clts) == 0))
        answer(regs);
    else
        signal(signal_number, SIG_DFL); /* it happens again and ends the process */
    errno = saved;
}

/* 3: as a machine with AVX-512 and VNNI; 2: with AVX-512; 1: with AVX2. Threads that exist already are not
 * reached. Nonzero: the processor or the kernel cannot refuse CPUID, and only CLTS is answered. */
int cpumask_limit(int level) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER};
    lowest = level;
    if (sigaction(SIGSEGV, &action, NULL) != 0) return 1;
    return set_faulting(1) != 0;
}

/* What a library sees, one with CLTS if `replaced`: a register of leaf 7. */
uint32_t cpumask_seen(int sub, int reg, int replaced) {
    uint32_t r[4] = {7, 0, (uint32_t)sub, 0};
    if (replaced)
        __asm__ volatile("clts" : "+a"(r[EAX]), "=b"(r[EBX]), "+c"(r[ECX]), "=d"(r[EDX]));
    else
        __cpuid_count(7, sub, r[EAX], r[EBX], r[ECX], r[EDX]);
    return r[reg];
}

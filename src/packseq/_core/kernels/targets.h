/* What the compiler can target; each instruction set's file is empty where it cannot. A build with PACKSEQ_NO_KERNELS
 * has none of them, nor the baseline: any compiler of C11 will do then. */
#ifndef PACKSEQ_TARGETS_H
#define PACKSEQ_TARGETS_H

#if defined(PACKSEQ_NO_KERNELS)
#elif !defined(__GNUC__)
#error "packseq's kernels need GCC's or Clang's vector types; with PACKSEQ_NO_KERNELS=1 it builds without them"
#elif defined(__x86_64__)
#define PACKSEQ_HAVE_X86 1
#elif defined(__aarch64__)
#define PACKSEQ_HAVE_NEON 1
#endif

#endif

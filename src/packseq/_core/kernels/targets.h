/* What the compiler can target; each instruction set's file is empty where it cannot. */
#ifndef PACKSEQ_TARGETS_H
#define PACKSEQ_TARGETS_H

#if !defined(__GNUC__)
#error "packseq's kernels need GCC's or Clang's vector types"
#endif
#if defined(__x86_64__)
#define PACKSEQ_HAVE_X86 1
#elif defined(__aarch64__)
#define PACKSEQ_HAVE_NEON 1
#endif

#endif

/* What compilers write each in their own way. INLINE: into every caller, so that what is constant there is constant in
 * the function too. PREFETCH: this address will soon be read, PREFETCH_TO_WRITE: and written to. */
#ifndef PACKSEQ_INLINE_H
#define PACKSEQ_INLINE_H

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define INLINE __forceinline
#else
#define INLINE inline
#endif

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#define PREFETCH_TO_WRITE(address) __builtin_prefetch(address, 1)
#else
#define PREFETCH(address) (void)(address)
#define PREFETCH_TO_WRITE(address) (void)(address)
#endif

#endif

/* What compilers write each in their own way. INLINE: into every caller, so that what is constant there is constant in
 * the function too. OUTLINE: into none, where a copy in each would be large. PREFETCH: this address will soon be read,
 * PREFETCH_TO_WRITE: and written to. */
#ifndef PACKSEQ_INLINE_H
#define PACKSEQ_INLINE_H

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#define OUTLINE __attribute__((noinline))
#elif defined(_MSC_VER)
#define INLINE __forceinline
#define OUTLINE __declspec(noinline)
#else
#define INLINE inline
#define OUTLINE
#endif

#if defined(__GNUC__)
#define PREFETCH(address) __builtin_prefetch(address)
#define PREFETCH_TO_WRITE(address) __builtin_prefetch(address, 1)
#else
#define PREFETCH(address) (void)(address)
#define PREFETCH_TO_WRITE(address) (void)(address)
#endif

#endif

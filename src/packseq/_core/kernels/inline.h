/* INLINE: into every caller, so that what is constant there is constant in the function too. */
#ifndef PACKSEQ_INLINE_H
#define PACKSEQ_INLINE_H

#if defined(__GNUC__)
#define INLINE inline __attribute__((always_inline))
#elif defined(_MSC_VER)
#define INLINE __forceinline
#else
#define INLINE inline
#endif

#endif

/* The template: one set of kernels, for one type of number and one format of weights. */
#if !defined(REAL) || !defined(INTEGER) || !defined(NATURAL) || !defined(WIDTH)
#error "include isa.h, which says what a REAL is and what the weights are"
#endif

#include "vector.h"
#include "activations.h"
#ifdef FORMAT
#include FORMAT
#include "product_coded.h"
#else
#include "product.h"
#endif
#include "member.h"
#include "cells.h"
#include "walk.h"
#include "padding.h"
#include "shards.h"

static const packseq_engine NAME(engine) = {NAME(workspace), NAME(run), NAME(activate)};

#include "undefine.h"

#include "product.h"

#include <cblas.h>

/* A rank is one thread here, also where the library that was found has threads of its own. And it is one process: calls
 * of the serial library from several threads at once take the same working memory, and give wrong products. */
bool bench_product_prepare(void)
{
    openblas_set_num_threads(1);
    return true;
}

void bench_block_multiply(const struct bench_block *block)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)block->rows, (blasint)block->columns,
                (blasint)block->depth, 1.0f, block->a, (blasint)block->depth, block->b, (blasint)block->b_pitch,
                block->add ? 1.0f : 0.0f, block->c, (blasint)block->c_pitch);
}

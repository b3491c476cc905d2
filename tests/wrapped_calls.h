/*
 * The calls by which the library would allocate, map, or speak, told to the test: the linker sends them here (--wrap,
 * see tests/CMakeLists.txt). A test defines call_seen before it includes this file.
 */
#ifndef EPX_TESTS_WRAPPED_CALLS_H
#define EPX_TESTS_WRAPPED_CALLS_H

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
void __real_free(void *memory);
void *__real_mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset);
int __real_munmap(void *address, size_t bytes);
int __real_madvise(void *address, size_t bytes, int advice);
int __real_close(int descriptor);
ssize_t __real_write(int descriptor, const void *bytes, size_t count);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
void __wrap_free(void *memory);
void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset);
int __wrap_munmap(void *address, size_t bytes);
int __wrap_madvise(void *address, size_t bytes, int advice);
int __wrap_close(int descriptor);
ssize_t __wrap_write(int descriptor, const void *bytes, size_t count);

void *__wrap_malloc(size_t bytes)
{
    call_seen("malloc");
    return __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    call_seen("calloc");
    return __real_calloc(count, bytes);
}

void *__wrap_realloc(void *memory, size_t bytes)
{
    call_seen("realloc");
    return __real_realloc(memory, bytes);
}

void __wrap_free(void *memory)
{
    if (memory != NULL) {
        call_seen("free");
    }
    __real_free(memory);
}

void *__wrap_mmap(void *address, size_t bytes, int protection, int flags, int descriptor, off_t offset)
{
    call_seen("mmap");
    return __real_mmap(address, bytes, protection, flags, descriptor, offset);
}

int __wrap_munmap(void *address, size_t bytes)
{
    call_seen("munmap");
    return __real_munmap(address, bytes);
}

int __wrap_madvise(void *address, size_t bytes, int advice)
{
    call_seen("madvise");
    return __real_madvise(address, bytes, advice);
}

int __wrap_close(int descriptor)
{
    call_seen("close");
    return __real_close(descriptor);
}

ssize_t __wrap_write(int descriptor, const void *bytes, size_t count)
{
    call_seen("write");
    return __real_write(descriptor, bytes, count);
}

#endif

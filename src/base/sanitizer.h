/* Which sanitizer the code is built with. */
#ifndef EPX_BASE_SANITIZER_H
#define EPX_BASE_SANITIZER_H

#if defined(__SANITIZE_THREAD__)
#define EPX_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define EPX_THREAD_SANITIZER 1
#endif
#endif
#ifndef EPX_THREAD_SANITIZER
#define EPX_THREAD_SANITIZER 0
#endif

#if defined(__SANITIZE_ADDRESS__)
#define EPX_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EPX_ADDRESS_SANITIZER 1
#endif
#endif
#ifndef EPX_ADDRESS_SANITIZER
#define EPX_ADDRESS_SANITIZER 0
#endif

#endif

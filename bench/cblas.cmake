# A matrix product for --product: the serial OpenBLAS where there is a choice, as of the demo, since ranks outnumber
# cores. Without one the engine is built without it.
find_library(EPX_CBLAS NAMES openblas
  PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial /usr/lib/x86_64-linux-gnu/openblas-serial
        /usr/lib/aarch64-linux-gnu/openblas-serial
  NO_DEFAULT_PATH)
find_library(EPX_CBLAS NAMES openblas)
find_path(EPX_CBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas-serial ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-serial
  ${CMAKE_LIBRARY_ARCHITECTURE})
if(EPX_CBLAS AND EPX_CBLAS_INCLUDE)
  set(EPX_BENCH_PRODUCT 1)
  set(EPX_BENCH_PRODUCT_SOURCE ${CMAKE_CURRENT_LIST_DIR}/product_openblas.c)
  set(EPX_BENCH_CBLAS_LIBRARIES ${EPX_CBLAS})
  set(EPX_BENCH_CBLAS_INCLUDES ${EPX_CBLAS_INCLUDE})
else()
  message(STATUS "epx-bench-epx: built without --product, there is no OpenBLAS")
  set(EPX_BENCH_PRODUCT 0)
  set(EPX_BENCH_PRODUCT_SOURCE ${CMAKE_CURRENT_LIST_DIR}/product_none.c)
  set(EPX_BENCH_CBLAS_LIBRARIES)
  set(EPX_BENCH_CBLAS_INCLUDES)
endif()

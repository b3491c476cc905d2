/*
 * op::fp16_t: a half precision number as a class, for C++ programs. Two bytes, no virtual functions, usable as the
 * element of an array that is copied byte by byte. C programs get nothing from this header: aclFloat16 and
 * aclFloatToFloat16 (acl/acl_base.h) serve them.
 *
 * Arithmetic is done in float and rounded once, to nearest, ties to even; subnormals are kept, overflow gives infinity,
 * a NaN becomes 0x7E00. Conversions to integers drop the fraction, saturate, and give 0 for a NaN.
 *
 * Owner: none. Thread: as for an int. Source: public headers of CANN 8. Differs: all in the header; rounding of double
 * and of 64-bit integers is direct.
 */
#ifndef ACLNN_OPDEV_FP16_T_H
#define ACLNN_OPDEV_FP16_T_H

#include <stdint.h>

#ifdef __cplusplus

#include <cmath>
#include <cstring>
#include <limits>

namespace op
{

struct tagFp16 {
    uint16_t val;

    constexpr tagFp16() : val(0)
    {
    }
    /* Raw bits, unlike assignment from uint16_t, which converts the value. */
    constexpr tagFp16(const uint16_t &bits) : val(bits)
    {
    }
    tagFp16(const tagFp16 &other) = default;
    tagFp16 &operator=(const tagFp16 &other) = default;
    template <typename T> tagFp16(const T &value) : val(0)
    {
        *this = value;
    }

    tagFp16 &operator=(const float &value)
    {
        val = bitsOf(value);
        return *this;
    }
    tagFp16 &operator=(const double &value)
    {
        val = bitsOf(value);
        return *this;
    }
    tagFp16 &operator=(const int8_t &value)
    {
        return *this = static_cast<double>(value);
    }
    tagFp16 &operator=(const uint8_t &value)
    {
        return *this = static_cast<double>(value);
    }
    tagFp16 &operator=(const int16_t &value)
    {
        return *this = static_cast<double>(value);
    }
    tagFp16 &operator=(const uint16_t &value)
    {
        return *this = static_cast<double>(value);
    }
    tagFp16 &operator=(const int32_t &value)
    {
        return *this = static_cast<double>(value);
    }
    tagFp16 &operator=(const uint32_t &value)
    {
        return *this = static_cast<double>(value);
    }
    /* Every 64-bit integer that is not infinity in half precision is exact in double. */
    tagFp16 &operator=(const int64_t &value)
    {
        return *this = static_cast<double>(value);
    }
    tagFp16 &operator=(const uint64_t &value)
    {
        return *this = static_cast<double>(value);
    }

    operator float() const
    {
        return static_cast<float>(toDouble());
    }
    operator double() const
    {
        return toDouble();
    }
    operator bool() const
    {
        return (val & 0x7FFFU) != 0;
    }
    operator int8_t() const
    {
        return toInteger<int8_t>();
    }
    operator uint8_t() const
    {
        return toInteger<uint8_t>();
    }
    operator int16_t() const
    {
        return toInteger<int16_t>();
    }
    operator uint16_t() const
    {
        return toInteger<uint16_t>();
    }
    operator int32_t() const
    {
        return toInteger<int32_t>();
    }
    operator uint32_t() const
    {
        return toInteger<uint32_t>();
    }
    operator int64_t() const
    {
        return toInteger<int64_t>();
    }
    operator uint64_t() const
    {
        return toInteger<uint64_t>();
    }

    tagFp16 operator+(const tagFp16 &other) const
    {
        return fromFloat(toFloat() + other.toFloat());
    }
    tagFp16 operator-(const tagFp16 &other) const
    {
        return fromFloat(toFloat() - other.toFloat());
    }
    tagFp16 operator*(const tagFp16 &other) const
    {
        return fromFloat(toFloat() * other.toFloat());
    }
    tagFp16 operator/(const tagFp16 &other) const
    {
        return fromFloat(toFloat() / other.toFloat());
    }
    tagFp16 operator-() const
    {
        return tagFp16(static_cast<uint16_t>(val ^ 0x8000U));
    }
    tagFp16 &operator+=(const tagFp16 &other)
    {
        return *this = *this + other;
    }
    tagFp16 &operator-=(const tagFp16 &other)
    {
        return *this = *this - other;
    }
    tagFp16 &operator*=(const tagFp16 &other)
    {
        return *this = *this * other;
    }
    tagFp16 &operator/=(const tagFp16 &other)
    {
        return *this = *this / other;
    }

    bool operator==(const tagFp16 &other) const
    {
        return toDouble() == other.toDouble();
    }
    bool operator!=(const tagFp16 &other) const
    {
        return toDouble() != other.toDouble();
    }
    bool operator<(const tagFp16 &other) const
    {
        return toDouble() < other.toDouble();
    }
    bool operator<=(const tagFp16 &other) const
    {
        return toDouble() <= other.toDouble();
    }
    bool operator>(const tagFp16 &other) const
    {
        return toDouble() > other.toDouble();
    }
    bool operator>=(const tagFp16 &other) const
    {
        return toDouble() >= other.toDouble();
    }

    float toFloat() const
    {
        return static_cast<float>(toDouble());
    }
    double toDouble() const
    {
        const int exponent = (val >> 10) & 0x1F;
        const int fraction = val & 0x3FF;
        double magnitude;
        if (exponent == 0x1F) {
            magnitude = fraction ? std::numeric_limits<double>::quiet_NaN() : std::numeric_limits<double>::infinity();
        } else if (exponent == 0) {
            magnitude = std::ldexp(static_cast<double>(fraction), -24);
        } else {
            magnitude = std::ldexp(static_cast<double>(fraction + 0x400), exponent - 25);
        }
        return (val & 0x8000U) ? -magnitude : magnitude;
    }
    int8_t toInt8() const
    {
        return toInteger<int8_t>();
    }
    uint8_t toUInt8() const
    {
        return toInteger<uint8_t>();
    }
    int16_t toInt16() const
    {
        return toInteger<int16_t>();
    }
    uint16_t toUInt16() const
    {
        return toInteger<uint16_t>();
    }
    int32_t toInt32() const
    {
        return toInteger<int32_t>();
    }
    uint32_t toUInt32() const
    {
        return toInteger<uint32_t>();
    }
    int IsInf() const
    {
        return (val & 0x7FFFU) != 0x7C00U ? 0 : ((val & 0x8000U) ? -1 : 1);
    }

  private:
    static tagFp16 fromFloat(float value)
    {
        return tagFp16(bitsOf(value));
    }

    /* Exact scaling by powers of two, then one rounding of a number below 2^53. */
    static uint16_t bitsOf(double value)
    {
        const uint16_t sign = std::signbit(value) ? 0x8000U : 0;
        const double magnitude = std::fabs(value);
        if (value != value) {
            return 0x7E00U;
        }
        if (magnitude >= 65520.0) {
            return static_cast<uint16_t>(sign | 0x7C00U);
        }
        if (magnitude < std::ldexp(1.0, -14)) {
            return static_cast<uint16_t>(sign | static_cast<uint16_t>(roundToEven(std::ldexp(magnitude, 24))));
        }
        const int exponent = std::ilogb(magnitude);
        const double scaled = roundToEven(std::ldexp(magnitude, 10 - exponent)); /* [1024, 2048] */
        const int bits = ((exponent + 14) << 10) + static_cast<int>(scaled);
        return static_cast<uint16_t>(sign | static_cast<uint16_t>(bits));
    }

    /* Independent of the rounding mode in force; value >= 0. */
    static double roundToEven(double value)
    {
        const double whole = std::floor(value);
        const double rest = value - whole;
        if (rest > 0.5 || (rest == 0.5 && std::fmod(whole, 2.0) != 0.0)) {
            return whole + 1.0;
        }
        return whole;
    }

    template <typename T> T toInteger() const
    {
        const double value = toDouble();
        if (value != value) {
            return 0;
        }
        if (value <= static_cast<double>(std::numeric_limits<T>::min())) {
            return std::numeric_limits<T>::min();
        }
        if (value >= static_cast<double>(std::numeric_limits<T>::max())) {
            return std::numeric_limits<T>::max();
        }
        return static_cast<T>(value);
    }
};

typedef tagFp16 fp16_t;

static_assert(sizeof(fp16_t) == 2, "fp16_t is an element of arrays that are copied byte by byte");

} // namespace op

#endif

#endif

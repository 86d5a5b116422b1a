/* Written by shortcut-snn. */

@uses@
#include <stddef.h>

#include "network.h"

/* Maps are [rows][columns][channels]. Nothing here allocates, and nothing has a fraction. */

struct map {
    int32_t rows, columns, channels;
};

struct window {
    int32_t tall, wide, down, right, top, left;
};

#ifdef SNN_TRACE
long long snn_additions, snn_products;
#define COUNT(counter, operations) ((counter) += (operations))
#define TRACE(layer, spikes, size) snn_trace(layer, spikes, size)
#else
#define COUNT(counter, operations) ((void)0)
#define TRACE(layer, spikes, size) ((void)0)
#endif

/* x / 2 ** digits, rounded down: C99 leaves the shift of negative numbers open. */
static int64_t shifted(int64_t x, int32_t digits)
{
    return x >= 0 ? x >> digits : ~(~x >> digits);
}

static int32_t size_of(struct map m)
{
    return m.rows * m.columns * m.channels;
}

#ifdef USES_CONVOLVE
/* Add the weights of a count, [outputs] each, to the sums that it reaches. The 8-bit weights are [outputs]. */
static void add_row8(int32_t *sums, const void *row, int32_t outputs, int32_t count)
{
    const int8_t *weight = row;
    int32_t k;
    if (count == 1) {
        for (k = 0; k < outputs; k++)
            sums[k] += weight[k];
        return;
    }
    for (k = 0; k < outputs; k++)
        sums[k] += count * weight[k];
}

/* The same for weights of 4 bits: a byte has one of the first half in its low bits, one of the second in its high bits. */
static void add_row4(int32_t *sums, const void *row, int32_t outputs, int32_t count)
{
    const uint8_t *weight = row;
    const int32_t half = (outputs + 1) / 2;
    int32_t k;
    for (k = 0; k < half; k++)
        sums[k] += count * (((weight[k] & 15) ^ 8) - 8);
    for (k = 0; k < outputs - half; k++)
        sums[half + k] += count * (((weight[k] >> 4) ^ 8) - 8);
}

/* Convolve counts: each count that is not 0 adds its weights, [tall][wide][inputs][outputs], to the sums it reaches. */
static void convolve(const int16_t *x, struct map in, const void *weight, int32_t bits, int32_t *sums, struct map out,
                     struct window w, int is_image)
{
    const int32_t bytes = bits > 4 ? out.channels : (out.channels + 1) / 2;
    int32_t row, column, channel, i, j;
    for (i = 0; i < size_of(out); i++)
        sums[i] = 0;
    for (row = 0; row < in.rows; row++)
        for (column = 0; column < in.columns; column++)
            for (channel = 0; channel < in.channels; channel++) {
                const int32_t count = *x++;
                if (!count)
                    continue;
                for (i = 0; i < w.tall; i++) {
                    const int32_t r = row + w.top - i;
                    if (r < 0 || r % w.down || r / w.down >= out.rows)
                        continue;
                    for (j = 0; j < w.wide; j++) {
                        const int32_t c = column + w.left - j;
                        const uint8_t *values = weight;
                        int32_t *sum;
                        if (c < 0 || c % w.right || c / w.right >= out.columns)
                            continue;
                        values += ((i * w.wide + j) * in.channels + channel) * bytes;
                        sum = sums + (r / w.down * out.columns + c / w.right) * out.channels;
                        if (bits > 4)
                            add_row8(sum, values, out.channels, count);
                        else
                            add_row4(sum, values, out.channels, count);
                        if (is_image)
                            COUNT(snn_products, out.channels);
                        else
                            COUNT(snn_additions, (long long)count * out.channels);
                    }
                }
            }
}

/* Turn sums into currents: shift them, or multiply and shift them, and add the bias. */
static void finish(int32_t *sums, struct map out, int32_t shift, const int32_t *multiplier, int32_t rescale,
                   const int32_t *bias)
{
    int32_t pixel, k;
    for (pixel = 0; pixel < out.rows * out.columns; pixel++)
        for (k = 0; k < out.channels; k++, sums++) {
            if (multiplier)
                *sums = (int32_t)shifted((int64_t)*sums * multiplier[k] + ((int64_t)1 << rescale >> 1), rescale);
            else
                *sums *= (int32_t)1 << shift;
            *sums += bias[k];
        }
}
#endif

/* Convolve currents, whose sums have 64 bits, with 8-bit weights. */
static void convolve_currents(const int32_t *x, struct map in, const int8_t *weight, int32_t *y, struct map out,
                              struct window w, const int32_t *multiplier, int32_t rescale, const int32_t *bias)
{
    int32_t row, column, k, i, j, channel;
    for (row = 0; row < out.rows; row++)
        for (column = 0; column < out.columns; column++)
            for (k = 0; k < out.channels; k++) {
                int64_t sum = 0;
                for (i = 0; i < w.tall; i++)
                    for (j = 0; j < w.wide; j++) {
                        const int32_t r = row * w.down + i - w.top, c = column * w.right + j - w.left;
                        const int8_t *values = weight + (i * w.wide + j) * in.channels * out.channels + k;
                        const int32_t *pixel = x + (r * in.columns + c) * in.channels;
                        if (r < 0 || r >= in.rows || c < 0 || c >= in.columns)
                            continue;
                        for (channel = 0; channel < in.channels; channel++)
                            sum += (int64_t)pixel[channel] * values[channel * out.channels];
                        COUNT(snn_products, in.channels);
                    }
                *y++ = (int32_t)(shifted(sum * multiplier[k] + ((int64_t)1 << rescale >> 1), rescale) + bias[k]);
            }
}

/* Leak, add the currents, count the thresholds [levels][channels] below the membrane potential, and reset. */
static void fire(const int32_t *current, const int32_t *residual, int32_t *membrane, int16_t *spikes, struct map m,
                 const int32_t *threshold, int32_t levels, const int32_t *reset, int32_t numerator, int32_t digits)
{
    int32_t pixel, k, level;
    for (pixel = 0; pixel < m.rows * m.columns; pixel++)
        for (k = 0; k < m.channels; k++) {
            int32_t v = (int32_t)shifted((int64_t)*membrane * numerator, digits) + *current++;
            int16_t count = 0;
            if (residual)
                v += *residual++;
            for (level = 0; level < levels; level++)
                count = (int16_t)(count + (v > threshold[level * m.channels + k]));
            *membrane++ = reset ? v - count * reset[k] : count ? 0 : v;
            *spikes++ = count;
        }
}

#define MAXIMUM(name, type)                                                                                            \
    static void name(const type *x, struct map in, type *y, struct map out, struct window w)                           \
    {                                                                                                                  \
        int32_t row, column, k, i, j;                                                                                  \
        for (row = 0; row < out.rows; row++)                                                                           \
            for (column = 0; column < out.columns; column++)                                                           \
                for (k = 0; k < out.channels; k++, y++) {                                                              \
                    int is_first = 1;                                                                                  \
                    for (i = 0; i < w.tall; i++)                                                                       \
                        for (j = 0; j < w.wide; j++) {                                                                 \
                            const int32_t r = row * w.down + i - w.top, c = column * w.right + j - w.left;             \
                            if (r < 0 || r >= in.rows || c < 0 || c >= in.columns)                                     \
                                continue;                                                                              \
                            if (is_first || x[(r * in.columns + c) * in.channels + k] > *y)                            \
                                *y = x[(r * in.columns + c) * in.channels + k];                                        \
                            is_first = 0;                                                                              \
                        }                                                                                              \
                }                                                                                                      \
    }

#ifdef USES_MAXPOOL_COUNTS
MAXIMUM(maxpool_counts, int16_t)
#endif
#ifdef USES_MAXPOOL_CURRENTS
MAXIMUM(maxpool_currents, int32_t)
#endif

#ifdef USES_SUMPOOL
/* Four times the mean of 2 x 2 pixels; fewer at an edge. */
static void sumpool(const int16_t *x, struct map in, int16_t *y, struct map out)
{
    int32_t row, column, k;
    for (row = 0; row < out.rows; row++)
        for (column = 0; column < out.columns; column++)
            for (k = 0; k < out.channels; k++) {
                const int32_t tall = 2 * row + 1 < in.rows ? 2 : 1, wide = 2 * column + 1 < in.columns ? 2 : 1;
                int32_t sum = 0, i, j;
                for (i = 0; i < tall; i++)
                    for (j = 0; j < wide; j++)
                        sum += x[((2 * row + i) * in.columns + 2 * column + j) * in.channels + k];
                *y++ = (int16_t)(sum * 4 / (tall * wide));
            }
}
#endif

#ifdef USES_SHIFT
static void shift(const int16_t *x, int32_t *y, int32_t size, int32_t digits)
{
    int32_t i;
    for (i = 0; i < size; i++)
        y[i] = x[i] * ((int32_t)1 << digits);
}
#endif

#ifdef USES_ADD_COUNTS
static void add_counts(const int16_t *a, const int16_t *b, int16_t *y, int32_t size)
{
    int32_t i;
    for (i = 0; i < size; i++)
        y[i] = (int16_t)(a[i] + b[i]);
}
#endif

#ifdef USES_ADD_CURRENTS
static void add_currents(const int32_t *a, const int32_t *b, int32_t *y, int32_t size)
{
    int32_t i;
    for (i = 0; i < size; i++)
        y[i] = a[i] + b[i];
}
#endif

/* Sum over all pixels. */
static void sum(const int16_t *x, struct map in, int16_t *y)
{
    int32_t pixel, k;
    for (k = 0; k < in.channels; k++)
        y[k] = 0;
    for (pixel = 0; pixel < in.rows * in.columns; pixel++)
        for (k = 0; k < in.channels; k++)
            y[k] = (int16_t)(y[k] + *x++);
}

/* Turn bytes [channels][rows][columns] into counts. */
static void load(const uint8_t *x, struct map in, int16_t *y, int32_t gain, const int32_t *offset)
{
    int32_t pixel, k;
    for (pixel = 0; pixel < in.rows * in.columns; pixel++)
        for (k = 0; k < in.channels; k++)
            *y++ = (int16_t)(x[k * in.rows * in.columns + pixel] * gain - offset[k]);
}

@arrays@

static struct {
    int16_t counts[@counts@];
    int32_t currents[@currents@], membranes[@membranes@], total[@features@], step;
} snn;

void snn_reset(void)
{
    int32_t i;
    for (i = 0; i < @membranes@; i++)
        snn.membranes[i] = 0;
    for (i = 0; i < @features@; i++)
        snn.total[i] = 0;
    snn.step = 0;
}

void snn_step(const uint8_t *frame)
{
    int16_t *const counts = snn.counts;
    int32_t *const currents = snn.currents, i;
    if (!snn.step) {
        @once@
    }
    @calls@
    for (i = 0; i < @features@; i++)
        snn.total[i] += counts[@total@ + i];
    snn.step++;
}

void snn_logits(int32_t *logits)
{
    @readout@
}

int snn_run(const uint8_t *input, int32_t *logits)
{
    int32_t step, best = 0, i;
    snn_reset();
    for (step = 0; step < SNN_STEPS; step++)
        snn_step(input + (SNN_FRAMES > 1 ? step : 0) * SNN_INPUT);
    snn_logits(logits);
    for (i = 1; i < SNN_CLASSES; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

/* Written by shortcut-snn. */

/* Compare the network with its recorded test vectors, or print the logits of the images in a file of raw bytes. */

#include <stdio.h>

#include "network.h"

#define VECTORS @vectors@
static const char *const layers[] = {@names@};
@vector_inputs@
@vector_logits@
@vector_spikes@

static uint32_t sums[SNN_LAYERS];

void snn_trace(int layer, const int16_t *spikes, int32_t size)
{
    int32_t i;
    sums[layer] = 0;
    for (i = 0; i < size; i++)
        sums[layer] += (uint32_t)spikes[i] * ((uint32_t)i * 2654435761u + 1u);
}

static int print_logits(const char *path)
{
    static uint8_t image[SNN_FRAMES * SNN_INPUT];
    int32_t logits[SNN_CLASSES];
    FILE *file = fopen(path, "rb");
    int i;
    if (!file) {
        fprintf(stderr, "%s cannot be read\n", path);
        return 1;
    }
    while (fread(image, 1, sizeof image, file) == sizeof image) {
        snn_run(image, logits);
        for (i = 0; i < SNN_CLASSES; i++)
            printf("%ld%c", (long)logits[i], i + 1 < SNN_CLASSES ? ' ' : '\n');
    }
    fclose(file);
    return 0;
}

int main(int argc, char **argv)
{
    int32_t logits[SNN_CLASSES];
    int vector, step, i, wrong = 0;
    if (argc > 1)
        return print_logits(argv[1]);
    for (vector = 0; vector < VECTORS; vector++) {
        snn_reset();
        for (step = 0; step < SNN_STEPS; step++) {
            snn_step(inputs[vector] + (SNN_FRAMES > 1 ? step : 0) * SNN_INPUT);
            for (i = 0; i < SNN_LAYERS; i++)
                if (sums[i] != expected_spikes[vector][step][i]) {
                    printf("vector %d, step %d: different spikes in %s\n", vector, step, layers[i]);
                    wrong++;
                }
        }
        snn_logits(logits);
        for (i = 0; i < SNN_CLASSES; i++)
            if (logits[i] != expected_logits[vector][i]) {
                printf("vector %d: a different logit of class %d\n", vector, i);
                wrong++;
            }
    }
    printf("%d test vectors, %d steps, %d layers: %s\n", VECTORS, SNN_STEPS, SNN_LAYERS, wrong ? "DIFFERENT" : "equal");
    printf("flash %d bytes (without code), RAM %d bytes\n", SNN_FLASH_BYTES, SNN_RAM_BYTES);
#ifdef SNN_TRACE
    printf("per image %lld additions and %lld products\n", snn_additions / VECTORS, snn_products / VECTORS);
#endif
    return wrong != 0;
}

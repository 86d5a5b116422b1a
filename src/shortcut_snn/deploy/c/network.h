/* Written by shortcut-snn. */

#ifndef SNN_NETWORK_H
#define SNN_NETWORK_H

#include <stdint.h>

/* Bytes of a frame, [channels][rows][columns]; frames of an input; time steps; classes; layers of neurons. */
#define SNN_INPUT @input@
#define SNN_FRAMES @frames@
#define SNN_STEPS @steps@
#define SNN_CLASSES @classes@
#define SNN_LAYERS @layers@

/* Constants, without code, and variables, without the stack. */
#define SNN_FLASH_BYTES @flash@
#define SNN_RAM_BYTES @ram@

/* Classify an input: an image, or all its frames. Returns the class. */
int snn_run(const uint8_t *input, int32_t *logits);

/* The same step by step: reset, then a step for each frame (an image is passed to every step), then the logits. */
void snn_reset(void);
void snn_step(const uint8_t *frame);
void snn_logits(int32_t *logits);

#ifdef SNN_TRACE
/* With -DSNN_TRACE: the caller defines a function that gets the spikes of each layer in each step. */
void snn_trace(int layer, const int16_t *spikes, int32_t size);
extern long long snn_additions, snn_products;
#endif

#endif

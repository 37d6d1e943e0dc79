/* Plays CartPole-v1 with policy.h, which generate.py wrote, and prints the steps of each episode. See README.md. */
#include <stdio.h>
#include <stdlib.h>

#include "policy.h"

static float about_zero(void) { return 0.1f * rand() / RAND_MAX - 0.05f; }

/* The equations and constants of Gymnasium's CartPole-v1: cart (x, its speed), pole (angle, its speed). */
static void step(float s[4], int right) {
  float cosine = cosf(s[2]), sine = sinf(s[2]);
  float push = ((right ? 10.0f : -10.0f) + 0.05f * s[3] * s[3] * sine) / 1.1f;
  float turn = (9.8f * sine - cosine * push) / (0.5f * (4.0f / 3.0f - 0.1f * cosine * cosine / 1.1f));
  float shove = push - 0.05f * turn * cosine / 1.1f;
  s[0] += 0.02f * s[1], s[1] += 0.02f * shove, s[2] += 0.02f * s[3], s[3] += 0.02f * turn;
}

int main(void) {
  for (int episode = 0; episode < 3; episode++) {
    float obs[4] = {about_zero(), about_zero(), about_zero(), about_zero()};
    int steps = 0;
    while (steps < 500 && fabsf(obs[0]) <= 2.4f && fabsf(obs[2]) <= 12 * 3.14159265f / 180) {
      int64_t action[1];
      float value[1], logits[2];
      policy(obs, action, value, logits);
      step(obs, action[0] == 1);
      steps++;
    }
    printf("%d\n", steps);
  }
  return 0;
}

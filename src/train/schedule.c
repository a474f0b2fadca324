#include "train/schedule.h"

double lips_learning_rate(const lips_config *cfg, int64_t epoch)
{
    double rate = cfg->lr;
    if (epoch < cfg->warmup_epochs)
        rate = cfg->warmup_lr +
               (cfg->lr - cfg->warmup_lr) * ((double)epoch / (double)cfg->warmup_epochs);
    if (cfg->lr_step <= 0)
        return rate;
    /* Repeated products, not pow(): libm versions differ in pow's last bit. */
    for (int64_t e = cfg->lr_step; e <= epoch; e += cfg->lr_step)
        rate *= cfg->lr_decay;
    return rate;
}

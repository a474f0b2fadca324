/* report/: what is made of an output folder. `test_report DIR` leaves synthetic sweeps and their
 * reports there, to be looked at. */
#include "report/report.h"
#include "synthetic.h"
#include "../lib/tempdir.h"

static const char fashion[] = "name: One hidden layer, 20 % noise\nwidth: logspace(2,512,20)\n"
                              "seed: 0..2\nlabel_noise: 0.2\nepochs: 300\neval_epochs: log:20\n"
                              "measure_epochs: log:10\noptimizer: adam\n";
static const char variants[] = "name: \"<b>'quoted' & _odd_</b>\"\nmodel: convnet\ndata: cifar10\n"
                               "width: range(1,64)\nlabel_noise: [0, 0.2]\naugment: [false, true]\n"
                               "epochs: 200\neval_epochs: log:20\n";
static const char single[] = "width: 16\nepochs: 3\neval_epochs: end\n";

static void look(const char *base, const char *name, const char *yaml)
{
    char out[300], page[4096];
    lips_experiment e;
    snprintf(out, sizeof out, "%s/%s", base, name);
    make_sweep(out, yaml, &e);
    lips_experiment_free(&e);
    if (lips_report_build(out, page) != LIPS_OK)
        printf("%s\n", lips_error());
    printf("%s\n", page);
}

int main(int argc, char **argv)
{
    if (argc > 1) {
        look(argv[1], "fashion", fashion);
        look(argv[1], "variants", variants);
        look(argv[1], "single", single);
        return 0;
    }
    return 0;
}

"""What others published on BreakHis, to stand beside our numbers; nothing here was measured by this program."""

PATIENT_RATE_SOURCE = (
    "ImageNet ResNet-50 on the five official folds, patients apart (all 7,909 images): MPCS, WACV 2023"
)
# Patient recognition rate by magnification.
PATIENT_RATE = {"40": 0.915, "100": 0.912, "200": 0.907, "400": 0.879}

PAPER_SOURCE = (
    "The paper: ResNet-50, mean squared error, RMSprop, trained on 100X, 200X and 400X, tested on 40X of the same "
    "patients"
)
# Image accuracy at 40X.
PAPER_ACCURACY = 0.991

"""Importing this imports what every trial of a table needs, so that a fork server can do it once for all trials."""

import sklearn.calibration  # noqa: TID253 - this module exists to be slow once
import sklearn.compose  # noqa: TID253 - as above
import sklearn.ensemble  # noqa: TID253 - as above
import sklearn.impute  # noqa: TID253 - as above
import sklearn.linear_model  # noqa: TID253 - as above
import sklearn.metrics  # noqa: TID253 - as above
import sklearn.neighbors  # noqa: TID253 - as above
import sklearn.neural_network  # noqa: TID253 - as above
import sklearn.pipeline  # noqa: TID253 - as above
import sklearn.preprocessing  # noqa: TID253 - as above
import sklearn.svm  # noqa: TID253, F401 - as above; nothing here is used, only loaded

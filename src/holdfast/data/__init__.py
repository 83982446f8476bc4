"""From files on disk to batches, in an order that is a pure function of (seed, epoch)."""

from holdfast.data.arrays import ArrayPictures
from holdfast.data.decoding.decode import decode_image
from holdfast.data.division.split import complete_sets
from holdfast.data.folders.folder import ImageFolder, read_folder
from holdfast.data.idx import read_idx_folder
from holdfast.data.loading.loader import Loader
from holdfast.data.loading.order import epoch_order
from holdfast.data.loading.sampling import Weighted
from holdfast.data.looking.look import look_at
from holdfast.data.preprocessing.keypoints import joint_eval_transform, joint_train_transform
from holdfast.data.sample import Batch, Collection, Pictures
from holdfast.data.sources import open_data
from holdfast.data.tables.annotations import AnnotatedPictures, read_landmarks, read_multilabel, read_regression
from holdfast.data.tables.csv_table import read_csv
from holdfast.data.targets import Targets, TargetSpec

__all__ = [
    "AnnotatedPictures",
    "ArrayPictures",
    "Batch",
    "Collection",
    "ImageFolder",
    "Loader",
    "Pictures",
    "TargetSpec",
    "Targets",
    "Weighted",
    "complete_sets",
    "decode_image",
    "epoch_order",
    "joint_eval_transform",
    "joint_train_transform",
    "look_at",
    "open_data",
    "read_csv",
    "read_folder",
    "read_idx_folder",
    "read_landmarks",
    "read_multilabel",
    "read_regression",
]

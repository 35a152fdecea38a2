"""Files and folders, local or on an object store, with the store's errors told apart."""

from linkner_ray.storage.faults import StoreFile, ask_store
from linkner_ray.storage.folder import Folder, open_file, read_file

__all__ = ["Folder", "StoreFile", "ask_store", "open_file", "read_file"]

"""Public weights for our students, and trained students under the public names again.

checkpoint.py   which of our students a directory or hub id holds
public.py       tensors in and out
names.py        what a table of names is; format.py what a publisher's way of writing is
vit_timm.py, vit_huggingface.py, ...   the tables
"""

"""What training programs save: tensors in pieces, over the files of several ranks, read without joining them.

One idea carries all of it: a tensor that lies in pieces is a lazy tensor over pieces (`tensors.pieces`). Each
module here reads one program's description of where the pieces are into an object tree whose leaves are
`JoinedTensor`s; what is the state dict in that tree is found as in any other checkpoint.
"""

"""Speed and memory, measured against a named peer in the same run.

A time alone depends more on the machine than on the code. So every number has beside it that of a peer measured in turn
with it, and the result is the ratio:

    $ clipedu bench losses      each loss against open_clip's and the course's
    $ clipedu bench norms       logging the norms of every layer, against a loop that does the same
    $ clipedu bench data        loading from the cache, against decoding in a DataLoader and webdataset
    $ clipedu bench retrieval   recall in both directions, against one matrix product and the course's loop
    $ clipedu bench heads       many settings of projections over frozen features at once, against single runs
    $ clipedu bench train       steps of training, against a bare loop and (on a GPU) open_clip's and the course's
"""

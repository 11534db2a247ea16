"""How fast, and in how much memory: ours against a named peer, side by side in one run on the same machine.

A time alone says more about the machine than about the code. So every number here stands beside that of a peer that was
measured in turn with it, and it is the ratio that counts:

    $ clipedu bench losses      each loss against open_clip's and the course's
    $ clipedu bench norms       watching every layer's norms, against a loop that does the same
    $ clipedu bench data        feeding from the cache, against decoding in a DataLoader and webdataset
"""

"""The systems that `histobatch compare` trains under one protocol, one file a family."""

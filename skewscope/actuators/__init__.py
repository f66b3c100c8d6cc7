"""Schedulers and other ends of advice: one file each looks, says what it would send, sends it and takes it back."""

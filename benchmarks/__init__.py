"""What is fast, measured: `python -m benchmarks` lists the measurements, `python -m benchmarks NAME` makes one."""

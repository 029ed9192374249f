"""The machine and its cluster: doctor, gc."""

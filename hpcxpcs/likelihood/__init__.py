"""The Gaussian likelihood of two-time data: exact inner products, lossless compression, linear scaling."""

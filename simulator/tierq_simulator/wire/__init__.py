"""The providers' wire formats, one a file: requests in, answers and errors out."""

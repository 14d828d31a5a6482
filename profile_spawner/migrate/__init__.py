"""Moving profiles from one form to another: out of what people run today, and out of this project again."""

"""What many runs say: tables, statistics, pictures, answers and the report."""

"""What finished runs say: table, figure, check, explain, report, publish."""

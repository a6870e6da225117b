"""What comparisons came to: kept in a table, listed, and held against by later ones."""

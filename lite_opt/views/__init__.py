"""Results for people: tables, pages, drawings."""

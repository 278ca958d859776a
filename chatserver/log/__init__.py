"""Where messages live, behind one small interface."""

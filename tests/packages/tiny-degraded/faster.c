int faster(void) { return 42; }

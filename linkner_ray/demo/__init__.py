"""The world of `linkner demo`: corpus, label set and small LLM, all made here."""

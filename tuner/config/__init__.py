"""`StudySpec`, `TrialConfig`, defaults and valid ranges, and errors that say where and what."""

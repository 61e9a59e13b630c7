"""What a trained model is worth: reports over the record of a run. Imports without torch."""

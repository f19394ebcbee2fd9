"""What is said: personas, turn-taking, speech, language models."""

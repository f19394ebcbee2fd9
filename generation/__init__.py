"""What is made: job kinds, engines, moderation gates."""

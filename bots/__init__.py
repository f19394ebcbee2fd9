"""What is said: personas, turn-taking, speech, language models."""

import loguru

# Pipecat greets on standard error when it is imported. Logs are infra.telemetry's business, so loguru's default
# sink goes before Pipecat comes.
loguru.logger.remove()

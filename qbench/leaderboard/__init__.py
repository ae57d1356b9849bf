"""The leaderboard: a page that is read from disk, and its way to the Hub and back."""

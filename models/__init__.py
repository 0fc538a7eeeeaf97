"""Model packages that come with segreg, each beside the recipe that trains it."""

"""What a personalized search costs beside other ways to make one: the same servers, the same run, A B A B."""
